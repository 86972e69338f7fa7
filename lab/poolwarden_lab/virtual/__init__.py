"""The whole of Poolwarden in virtual time: production core, production host side, modelled xapi, one clock.

Nothing of what decides or acts is imitated here: the collector's engine, the gateway's translation and the agent's host
side are the production modules. Imitated are the world around them (xapi, power, BMCs, network, processes) and the two
thin shells that move messages, so that a story of ten minutes takes a second and two runs of it are equal.

Begin with ``lab.py``: a ``World`` of one or many pools (``spec.py``) with 1 to 64 hosts each. What can befall it:
``machines`` (hosts and their power), ``toolstacks`` (xapi, dom0's disk), ``administrators`` (xe by hand), ``agency``
(agents, slots, clocks), ``links`` (network), ``fences`` (BMCs and PDUs), ``collectors``.
"""
