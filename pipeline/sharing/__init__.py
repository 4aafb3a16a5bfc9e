"""Work that any number of processes share, on any number of machines that see one folder.

They send each other nothing. A process takes parts of the work that nobody holds, and writes what
others then find done. What a dead process held is free again, because the operating system lets go
of its locks.

claims.py   names, each of which one process at a time holds
ending.py   the folder of claims, and what fails because another process has ended the work
workers.py  which worker a process is: by `--worker i/n`, or by the variables of its launcher (those
            of a new engine go there)
"""
