"""How far the two students agree under each method.

Agreement is the mean foreground DSC of one student's label maps against the other's on the validation cases. A student
that learns from its peer should agree with it more than two that never met; too much of it would be copying.
"""

import pandas as pd

from ctrcl.report.rendering import Table, signed
from ctrcl.report.results import Results
from ctrcl.report.style import short


def measure(results: Results, dataset: str) -> Table:
    """The last epoch's agreement under the paper's five, and what it is more than alone, with the seeds' range."""
    last, lines = {}, []
    for name in results.main(dataset):
        curve = results.curves(dataset, name)
        last[name] = curve[curve["epoch"] == curve["epoch"].max()].set_index("seed")["agreement"]
    for name, values in last.items():
        rise = values - last["alone"] if "alone" in last and name != "alone" else values * float("nan")
        line = {"method": short(results.label(name)), "agreement": values.mean(), "least": values.min()}
        line |= {"most": values.max(), "rise": rise.mean(), "least rise": rise.min(), "seeds": len(values)}
        lines.append(line)
    frame = pd.DataFrame(lines)
    text, ours = "There are no validation cases, so agreement was not measured.", short(results.label("ctrcl"))
    for row in frame[(frame["method"] == ours) & frame["rise"].notna()].to_dict("records"):
        text = f"Under {ours} the students' agreement differs by {signed(row['rise'])} from training alone."
    return Table(frame, [frame], [], results.dataset(dataset).sentences(text))
