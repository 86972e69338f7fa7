"""What happened on this host shows which assumptions hold: learned by looking on, never by acting.

One ``Now`` each report interval is compared with the one before. What an order did is known by its marks in the gate's
durable state: nothing here is called by an order, so nothing here can hold one up. Each learner keeps what it waits for
in memory; an agent that is started anew in the middle of something learns nothing of that.

Rules
-----
* FAILS is only what was completely seen: a process that still runs long after it was to end, a listener that stays, a
  file that is still there. What did not come in time is not seen.
* What another order, a hold or a person may have caused is dropped, and learned the next time.
* Spans are as exact as the looks are apart: about two seconds.
"""
