"""TableSummaryCallback."""
class TableSummaryCallback: pass
