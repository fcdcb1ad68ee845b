"""The server, from the inside out: each file knows only those before it.

``tensors`` and ``oip`` are the wire format (pure), ``app`` the routes, ``server`` the process; ``client`` speaks to a
server, ``process`` starts one as a child, ``verify`` sends it a whole data set.
"""
