"""The stages of the pipeline as Beam steps, which only move frames.

Each stage is one composite: `parse.Parse`, `suspects.FindSuspects`, `sessions.ProcessSessions`,
`catalogue.BuildCatalogue`, `users.BuildUsers`, `metrics.AddPartials` and `BuildMetrics`,
`lifetime_value.PredictLifetimeValue`, `publish.Publish`. They take a `plan.Plan`.
"""
