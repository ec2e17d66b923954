"""Makes candidates: triggers, recipes, jobs, gate, supervisor. Training libraries load only inside a job's process."""
