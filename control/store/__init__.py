"""The only code that writes to the database. Each public function of these modules is one transaction, with
one event row for each state change.

Must never call another service while a transaction is open. Callers report what happened; `domain.states`
decides which state follows.
"""

from control.store.transaction import Store as Store
