"""Amounts of money are grouped by thousands in China too; Django leaves them ungrouped. Moments are as in English."""

from console.formats.en.formats import DATETIME_FORMAT as DATETIME_FORMAT
from console.formats.en.formats import SHORT_DATETIME_FORMAT as SHORT_DATETIME_FORMAT

THOUSAND_SEPARATOR = ","
NUMBER_GROUPING = 3
