"""The order of events of one promotion and one repointing, as the whole of Poolwarden brings it about in virtual time.

The same list is what a run on sockets has to show (poolwarden_lab.virtual.world.scenes.PROMOTION_ORDER).
"""

import time

from poolwarden_lab.virtual.world.scenes import PROMOTION_ORDER, STORIES, promotion_events


def test_the_events_of_a_promotion_come_in_the_documented_order_and_quickly() -> None:
    story = STORIES["power"]
    sim = story.build()
    began = time.process_time()
    story.play(sim)
    assert promotion_events(sim) == PROMOTION_ORDER
    assert time.process_time() - began < 1
