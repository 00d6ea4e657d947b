"""The page of ``igr explore``: laws on the simplex to play with, in a browser, served by this machine."""
