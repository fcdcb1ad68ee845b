"""The report of a shipment: one self-contained page, the plots in it, and the table that the terminal draws too.

``html`` makes the page; ``plots`` draws its pictures as SVG that also stand alone; ``rows`` holds the cells of the
table of the field. Nothing here reads a file, a clock or the machine: records in, text out.
"""

from shipworthy.measure.report.page import html

__all__ = ["html"]
