"""`slo-load capacity`: the highest rate that meets a spec, from noisy trials, and what follows from it."""
