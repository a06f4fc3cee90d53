"""What is in a person's file? Rows of numbers, classes and times, from text as people have it."""

from rtrl.tables._column import KINDS as KINDS
from rtrl.tables._column import Column as Column
from rtrl.tables._describe import describe as describe
from rtrl.tables._encode import Problem as Problem
from rtrl.tables._read import read as read
from rtrl.tables._table import GAPS as GAPS
from rtrl.tables._table import Row as Row
from rtrl.tables._table import Table as Table
