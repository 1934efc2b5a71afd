"""Dataplanes: the faithful model of a node's rules -> what happens to a packet (observed forwarding)."""
