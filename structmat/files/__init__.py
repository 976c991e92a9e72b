"""Files: written whole or not at all, and read as bytes that anybody may have written.

paths     names of files
write     files that are moved into place
foreign   one error for whatever foreign bytes raise, headers with digests
archive   archives of arrays, ``.npz``
"""
