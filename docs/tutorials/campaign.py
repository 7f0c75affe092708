# %% [markdown]
# # Two weeks of a campaign
#
# A campaign with cells of a simulated laboratory. Run it in the folder that `drx-screen example demo` wrote: there lie
# `campaign.yaml` and `week1`, eight exports of four makers' cyclers with a sample table. The laboratory is a formula
# with invented numbers; the files are as real ones are.

# %%
from pathlib import Path

from matplotlib import pyplot as plt

from campaigns import Campaign
from campaigns.example import cycle_proposals

campaign = Campaign(".")
print(
    campaign.spec.candidate_space.metals,
    campaign.spec.batch_size,
    "compositions a round",
)

# %% [markdown]
# ## Week 1: what was there
#
# Four compositions that the group had made before, two cells each. Every file is checked by the rules of the
# reference; what passes is recorded. `fine_tune=False` leaves the learning to the end.


# %%
def exports(folder):
    return sorted(path for path in Path(folder).iterdir() if path.name != "samples.csv")


done = campaign.ingest(
    exports("week1"), samples=Path("week1/samples.csv"), fine_tune=False
)
for file in done.files:
    print(
        f"{Path(file.name).name:<26} {file.format:<14} {file.status}, {file.discharges} discharges"
    )

# %%
for row in campaign.rank():
    print(
        row["rank"],
        row["composition"],
        row["source"],
        f"{row['rate_retention_mean']:.2f}",
    )

# %% [markdown]
# The same files once more change nothing: a cell is known by its discharges.

# %%
again = campaign.ingest(
    exports("week1"), samples=Path("week1/samples.csv"), fine_tune=False
)
print(
    {str(file.status) for file in again.files},
    len(again.measurements),
    "new measurements",
)

# %% [markdown]
# ## Choose a batch
#
# Every composition of the space is scored by the model and by what was measured; four are chosen together, so that
# they teach different things.

# %%
batch = campaign.recommend()
for proposal in batch.to_frame().itertuples():
    print(f"{proposal.proposal_id}  {proposal.composition:<36}  ", end="")
    print(
        f"{proposal.rate_retention_mean:.2f} ± {proposal.rate_retention_std:.2f}, feasible {proposal.feasibility:.0%}"
    )

# %% [markdown]
# One did not form a single phase. That is worth knowing, too.

# %%
campaign.mark(
    batch[3].proposal_id,
    "failed",
    "two phases in XRD",
    phases="rocksalt 60, Li3NbO4 40",
)
print(campaign.summarize()["proposals"])

# %% [markdown]
# ## Week 2: the cells come back
#
# The simulated laboratory cycles the other three and exports what it measured. Then the model learns, if that makes it
# better on compositions that it did not see.

# %%
samples = cycle_proposals(batch[:3], "week2")
done = campaign.ingest(exports("week2"), samples=samples, fine_tune=False)
print([str(file.status) for file in done.files])

learned = campaign.fine_tune()
print(learned.sentence)

# %% [markdown]
# A mass was read off wrongly: the measurement is superseded, not overwritten. The ledger keeps both.

# %%
first = done.measurements[0]
corrected = campaign.update_measurement(
    first, "balance was off by 1 %", capacity_mah_g=240.0
)
print(first, "->", corrected)

# %% [markdown]
# ## Where it stands

# %%
ranking = campaign.rank().to_frame()
for row in ranking.itertuples():
    print(f"{row.rank}  {row.composition:<36}  {row.source:<9}  ", end="")
    print(f"{row.rate_retention_mean:.2f} ± {row.rate_retention_std:.2f}")

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for source, of_source in ranking.groupby("source"):
    axes.errorbar(
        of_source["capacity_low_mah_g_mean"],
        of_source["rate_retention_mean"],
        yerr=of_source["rate_retention_std"],
        fmt="o",
        label=source,
    )
axes.set(xlabel="capacity at 20 mA/g (mAh/g)", ylabel="rate retention")
axes.legend()
plt.show()

# %% [markdown]
# `campaign.report()` writes all of it as one page; `drx-screen report --campaign .` does the same. The next round is
# `campaign.recommend()` again.
