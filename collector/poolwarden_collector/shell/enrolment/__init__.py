"""Enrolment: how a host comes by its certificate, keeps it, and loses it.

``enrolment.py`` decides who is certified, ``decisions.py`` is the operator's part in it, ``ledger.py`` is what is
remembered, ``authority.py`` signs, ``identity.py`` reads what a stream's certificate says, ``server.py`` is what a host
talks to, ``agent_packages.py`` hands out the agent's packages, ``authority_files.py`` makes and renews the authority's
files, ``commands.py`` is the command line of that.
"""
