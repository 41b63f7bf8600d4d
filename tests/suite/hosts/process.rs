//! What a process asks for and its host does not give: groups, limits, labels, devices, keys.
