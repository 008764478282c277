"""The journey of a backup: from a database server to another region, kept, proven, and restored.

Imports go one way here too (`.importlinter` holds it). From the top:

    tasks            doors for Celery: claim, call, ring the next bell
    oversight        is it all as it should be: watch, protection states, lag, healed gaps, the audit
    self_recovery    how Farshore itself comes back
    drilling         rehearsed restores, and their evidence
    restoring        copies become servers and databases again
    downloads        a backup file is handed out, once it has been asked for and agreed to
    level2, fleet    a second store at home; who joins and leaves
    policies         enabling, changing, disabling, releasing: every way into a policy
    default_backups  how backups come about at the source: taken, found, or written by the server
    copying          a finished backup becomes exactly one copy: planned, carried, verified, mended
    keeping          how long copies stay, and the one guarded purge
    logs             log backups received, and the gaps among them
    servers, terms   how servers are reached; what must be agreed before anything is copied
    chains           what can be restored from what
    models           the nouns, one per file          engines   what differs between database engines

Below all of them lies what everybody uses: `access`, `alerts`, `bell`, `cleaning`, `events`, `facts_of_sets`, `layout`,
`leases`, `presence`, `recoveries`, `restore_sources`, `seals`, `second_person`, `timetable`.
"""
