"""The figures of `notebooks/paper/` and what some of them measure; tables of DSC and cost are in `ctrcl.report`."""
