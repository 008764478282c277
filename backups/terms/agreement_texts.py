"""The agreement's text as it ships; `backups.terms.agreements.publish` adds newer versions."""

VERSION_1 = """Cross-border compliance agreement

1. What happens. When you enable cross-region backup for an instance, every later default backup of that instance is
copied, in full, to the backup region you choose, and kept there for the retention period you set. A copy holds all the
data of the databases it was taken from, personal data included.

2. Crossing a border. The source region and the backup region may lie under different laws. Where they do, the console
says so before you confirm. You decide on the transfer and you answer for it: you have established that the law of both
places, your contracts and your own rules allow these data to be stored there, and you have made the declarations,
assessments or filings that they ask for.

3. The people whose data it is. Where consent or information is needed before their data leave their region, you have
obtained the one and given the other.

4. Staying in control. You can disable cross-region backup at any time. Copies made before stay, and are charged, until
their retention period ends; you can shorten the period. Releasing an instance does not delete its copies.

5. What is recorded. Farshore records who accepted this text, when, from which address, for which instances and route,
and keeps that record for as long as the installation exists. A new version of this text is asked for at
the next enabling.
"""
