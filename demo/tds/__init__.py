"""A simulation of SQL Server as it is seen over the wire: TDS 7.4, a small part of T-SQL, synthetic backups.

For the demonstration and the tests only. It keeps no data: its databases are a name, a size, a recovery model and a
place in a log. What it knows of the protocol is from the published specification [MS-TDS]; what it says to BACKUP is
`sqlserver.md` §3. A statement that it does not know is refused with error 102 and its own words, never passed over.
"""

from demo.tds.greeting import Encryption
from demo.tds.machine import Account, Database, SimulatedMachine
from demo.tds.serving import SimulatedServer

__all__ = ["Account", "Database", "Encryption", "SimulatedMachine", "SimulatedServer"]
