"""The operator's command line. It knows the collector only through its operator API, and never acts by itself.

Layers, each importing only those below it: `main` (entry, exit status), `see` and `act` (the commands), `pages` (what a
reply says, as lines and tables), `layout` (80 columns, plain or coloured), `collector` (the API's client), `settings`,
`errors`. grpc, the contract and rich are imported inside functions: `--help` has to be quick.
"""
