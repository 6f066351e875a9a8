"""The only writer. Each public function of these modules is one transaction, with an event row for each move.

Must never call anything outside while a transaction is open. Callers bring facts; `domain.states` says where
they lead.
"""

from control.store.transaction import Store as Store
