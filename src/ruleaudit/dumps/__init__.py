"""What a node's dumps hold, as values that know their lines: rules, sets, virtual servers, interfaces. `formats` reads them."""
