"""One model of xapi with two drivers.

`model.XapiModel` is a state machine without clock, socket or file; `sockets` runs it as a process that serves XML-RPC,
`virtual.VirtualPool` runs a whole pool of them in virtual time. Both log the same events.
"""
