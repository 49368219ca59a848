"""On the path of a gateway's process it has indexes searched from so few chunks on as a test can afford.

Python imports it before anything else; no setting of the service says the limit, which is a measured one.
"""

import os

from gateway.store import search_plan

search_plan.EXACT_LIMIT = int(os.environ["LOW_EXACT_LIMIT"])
