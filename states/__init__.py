"""What may happen: the tables, their proof, their picture.  Pure: importing it loads neither torch nor transitions.

# General layout
#
#   names      the words: State, Trigger, Event, Guard, Counter
#   rows       a Transition, a Count
#   machine    a Machine: rows, initial, finals, what its states hold
#   proof      the rules that every machine keeps
#   tables     TRAINING, EVALUATION, PREDICTION: start reading here
"""

from states.errors import MachineRefused as MachineRefused
from states.errors import StateloopError as StateloopError
from states.errors import TriggerRefused as TriggerRefused
from states.machine import Machine as Machine
from states.names import Counter as Counter
from states.names import Event as Event
from states.names import Guard as Guard
from states.names import State as State
from states.names import Trigger as Trigger
from states.proof import Proof as Proof
from states.proof import prove as prove
from states.rows import Count as Count
from states.rows import Transition as Transition
from states.rows import When as When
from states.tables import EVALUATION as EVALUATION
from states.tables import PREDICTION as PREDICTION
from states.tables import TRAINING as TRAINING
