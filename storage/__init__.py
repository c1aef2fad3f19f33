"""What the node holds: files in the data folder and rows in the job database.

`files` keeps instances and results on disk, `catalog` knows the received series, `jobs` and
`deliveries` are the queue. Every function returns frozen records; no session leaves the package.
"""
