"""One script per stage of dvc.yaml: read params, open inputs, call pipeline, write outputs; and
commands of like form.
"""

import sys

from pipeline.core.extras import tell_missing_libraries
from pipeline.core.stopping import leave_at_once

if sys.argv[0] == "-m":  # `python -m stages.<name>`: its libraries take seconds to load
    leave_at_once()
    tell_missing_libraries()
