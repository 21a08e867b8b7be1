"""Turn results into one page that can be read on a phone, printed and sent by mail."""

from terracausal.report.page import Report

__all__ = ["Report"]
