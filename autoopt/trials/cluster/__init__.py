"""Trials on a Ray cluster: our own workers on other machines, placed and kept apart by Ray.

    coordinator (pool.py)                 the planner's loop, as on one machine
      |  a socket, and two pipes a slot
    bridge (bridge.py), a process          the only one that knows Ray's driver
      |  Ray
    host (host.py), an actor a slot        on a node, with that node's CPUs or GPUs
      |  two pipes
    keeper and worker                      the same processes as on one machine

What coordinator and worker say to each other (`trials.protocol`) passes through unread. Ray places, counts GPUs, ships the
user's folder, checks the token, and tells when a node is gone. When the bridge or an actor dies, the pipes below it close,
and the worker's keeper ends what is left.
"""
