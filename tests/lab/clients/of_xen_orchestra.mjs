// xen-api, the library under Xen Orchestra, as a watcher of a pool: a JSON object a line for each thing it notices.
//
//   node of_xen_orchestra.mjs FOLDER URL     FOLDER holds node_modules/xen-api
//
// Standard input: "vms" prints names and power states; "reboot NAME" runs Async.VM.clean_reboot and waits for its task.
// Only waiting is shorter than the library's own: a silent connection is given up after 4 s instead of 5 min, and after
// an error the next attempt comes 1 s later instead of a minute. And what a person does in Xen Orchestra by its button is
// done here: a login that fails for another reason than HOST_IS_SLAVE, as at a host that still starts, leaves the library
// without a session (`_sessionOpen` takes the old one away first), and each later call fails by an assertion until somebody
// reconnects.
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

const [folder, url] = process.argv.slice(2)
const { createClient } = await import(pathToFileURL(`${folder}/node_modules/xen-api/index.mjs`))
const say = object => process.stdout.write(JSON.stringify(object) + '\n')
console.warn = (_, error) => error?.code === 'ERR_ASSERTION' && reconnect()

const xapi = createClient({ url, allowUnauthorized: true, eventPollDelay: 1e3, httpInactivityTimeout: 4e3 })
xapi.on('sessionId', () => say({ event: 'session', at: xapi._url.hostname }))
xapi.on('eventFetchingError', error => say({ event: 'error', code: error.code ?? error.name }))
xapi.on('disconnected', () => say({ event: 'disconnected' }))
xapi.objects.on('update', objects => {
  for (const object of Object.values(objects)) {
    if (object.$type === 'VM' && !object.is_control_domain) {
      say({ event: 'vm', name: object.name_label, power: object.power_state })
    }
  }
})

let reconnecting = false
const reconnect = async () => {
  if (reconnecting) {
    return
  }
  reconnecting = true
  say({ event: 'reconnecting' })
  await xapi.disconnect()
  while (xapi.status !== 'connected') {
    await xapi.connect().catch(() => setTimeout(1e3))
  }
  reconnecting = false
}

const vms = () => {
  const found = Object.values(xapi.objects.all).filter(_ => _.$type === 'VM' && !_.is_control_domain)
  return Object.fromEntries(found.map(_ => [_.name_label, _.power_state]))
}

const commands = {
  vms: async () => vms(),
  reboot: async name => {
    const vm = Object.values(xapi.objects.all).find(_ => _.$type === 'VM' && _.name_label === name)
    return xapi.callAsync('VM.clean_reboot', vm.$ref)
  },
  enabled: async () => xapi.call('host.get_enabled', xapi.pool.master),
}

try {
  await xapi.connect()
  await xapi.objectsFetched
  say({ event: 'fetched', vms: vms() })
} catch (error) {
  say({ event: 'failed', code: error.code ?? error.name, at: xapi._url.hostname })
  process.exit(1)
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...words] = line.split(' ')
  commands[command](...words).then(
    value => say({ answer: command, value }),
    error => say({ answer: command, error: error.code ?? error.name, message: error.message })
  )
}
process.exit(0)
