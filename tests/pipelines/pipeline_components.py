"""The components that the pipeline runs, for the tests of every runner."""

# In the order in which they run.
COMPONENTS = (
    "InteractionGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "IndexGen",
    "InfraCheck",
    "RankingEvaluator",
    "Pusher",
)
