"""What may happen: the tables, their proof, their picture.  Pure: importing it loads neither torch nor transitions.

# General layout
#
#   tables      TRAINING, EVALUATION, PREDICTION: start reading here
#   names       the words: State, Trigger, Event, Guard, Counter
#   rows        a Transition, a Count
#   machine     a Machine: rows, initial, finals, what its states hold
#   extend      a machine out of another: states put in, rows replaced; without takes out, held is about held machines
#   scaled      a training in half precision, out of one that is not
#   proof       what holds for every machine; rules says what must, paths how each state is reached
#   grammar     the legal orders of events, written by hand; expressions reads them
#   language    the order of events of any machine, read off its rows; places: where a run may be; order judges a trace
#   walk        what would happen under a plan
#   claims      what a user claims of an order
#   explore     all that may happen, watched: strides says what may at a place, following holds a trace against it
#   trace       a recorded run; verify follows it through a machine (follower, ways), difference compares two
#   shape       which loops a machine goes round, and where its ways meet
#   checked     the same rows as a pytransitions machine
#   diagram     the picture: picture takes it apart, here marks where a run is, mermaid, dot and svg write it down
#   errors      what can go wrong
"""

from states.checked import to_transitions as to_transitions
from states.diagram import diagram as diagram
from states.errors import ExtensionRefused as ExtensionRefused
from states.errors import MachineRefused as MachineRefused
from states.errors import StateloopError as StateloopError
from states.errors import TriggerRefused as TriggerRefused
from states.grammar import Grammar as Grammar
from states.grammar import accepts as accepts
from states.machine import Machine as Machine
from states.names import Counter as Counter
from states.names import Event as Event
from states.names import Guard as Guard
from states.names import State as State
from states.names import Trigger as Trigger
from states.order import Order as Order
from states.proof import Proof as Proof
from states.proof import prove as prove
from states.rows import Count as Count
from states.rows import Transition as Transition
from states.rows import When as When
from states.scaled import scaled as scaled
from states.tables import EVALUATION as EVALUATION
from states.tables import PREDICTION as PREDICTION
from states.tables import TRAINING as TRAINING
