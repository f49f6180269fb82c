"""The shape of the graph: its steps, what is grouped, how elements are encoded."""

import datetime as dt
import re

import apache_beam as beam
import pytest
from apache_beam.coders.coders import FastPrimitivesCoder, PickleCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext

from pipelines import generate_events
from pipelines.customer_analytics import build_pipeline
from transforms.ingest.files import match_inputs, split_files
from transforms.rules import Rules
from transforms.steps.plan import Plan
from transforms.warehouse.publishing import Run

STAGES = {
    "Parse": """
        InputRanges SpreadRanges ParseRanges AddCounts StoreCounts
        RejectedExamples Start RequireFewRejected KeepWarehouse
    """,
    "ShuffleEvents": "Send Shards EachShard WithEmpty Group",
    "FindSuspects": """
        ProductCodes ShuffleProductCodes FindAmbiguousProducts MergeAmbiguous StoreAmbiguous
        FindCandidateBrands MergeBrands StoreBrands
    """,
    "Sessions": "ProcessShards AddDates StoreDates",
    "Catalogue": "ShuffleProducts CombineProducts Start DescribeCatalogue",
    "Users": """
        ShuffleUsers CombineUsers StartBrackets BracketRanks FindRankCandidates
        StartRanks ResolveRanks FunnelPartials KeepValues SendExposures UsersAndExposures
        GroupUsers DescribeUsers Partials
    """,
    "AllPartials": "",
    "AddPartials": "Add Store",
    "Metrics": "Start ComputeMetrics",
    "ProductPairs": """
        AddBaskets StoreBaskets ShufflePairs CountPairs BestPairs StorePairs Start DescribePairs
    """,
    "LifetimeValue": """
        Start FindFirstPurchase Earliest SplitDays CountCustomers AddCounts StoreCounts FitModels
        TestModels AddSums StoreSums ChooseModel Predict StartBrackets BracketDeciles
        FindDecileCandidates StartDeciles ResolveDeciles RankPredictions AddGroups StoreGroups
        DescribeGroups Tables
    """,
    "Publish": """
        StageRejectedRows StageSessions StageCatalogue StageUserDays StageUsers StageMetrics
        StageProductPairs StageLifetimeValue StagePredictions
        AllFiles AllReports AddReports StoreReports AllAudits Start AuditAndPublish KeepWarehouse
    """,
}

GROUPS = {
    "Parse/SpreadRanges": "the ranges, a few hundred bytes each, so that they spread",
    "Parse/AddCounts": "counts of rows, added up on the way",
    "FindSuspects/ShuffleProductCodes": "the distinct (product, brand, category)s of each bundle",
    "FindSuspects/MergeAmbiguous": "few products, put together on the way",
    "FindSuspects/MergeBrands": "their brands, put together on the way",
    "Users/KeepValues/Add": "counts of funnels by value, added up on the way",
    "ShuffleEvents": "shuffle 1: every event, once",
    "Sessions/AddDates": "the first and the last date of each shard",
    "Catalogue/ShuffleProducts": "shuffle 2: sums by product of each session shard",
    "Users/ShuffleUsers": "shuffle 2: sums by user of each session shard",
    "Users/GroupUsers": "shuffle 2: the exposures of each session shard, beside their users",
    "ProductPairs/AddBaskets": "counts of baskets by product, added up on the way",
    "ProductPairs/ShufflePairs": "shuffle 3: counts of pairs of products of each session shard",
    "ProductPairs/BestPairs": "the best pairs of each product, put together on the way",
    "LifetimeValue/Earliest": "the first purchase day of each user shard",
    "LifetimeValue/AddCounts": "counts of customers that buy alike, added up on the way",
    "LifetimeValue/AddSums": "what each model predicts and what came, added up on the way",
    "LifetimeValue/AddGroups": "the same by decile, added up on the way",
    "AddPartials/Add": "partial aggregates, added up on the way",
    "Publish/AddReports": "what the audit needs of each batch, added up on the way",
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> beam_runner_api_pb2.Components:
    """The parts of the pipeline's proto, for a runner with a distributed shuffle."""
    path = tmp_path_factory.mktemp("graph") / "events.csv"
    generate_events.main(["--rows=100", "--seed=1", f"--output={path}"])
    run = Run(
        run_id="run",
        started_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        output="gs://bucket/warehouse",
        staging="gs://bucket/warehouse/_runs/run",
        options={"input": [str(path)]},
        rules=Rules(),
        max_rejected_ratio=0.01,
    )
    pipeline = beam.Pipeline(options=PipelineOptions(["--pickle_library=cloudpickle"]))
    build_pipeline(pipeline, Plan(run, split_files(match_inputs([str(path)]), 1), 8, None))
    return pipeline.to_runner_api().components


def of_urn(graph, urn):
    return [step for step in graph.transforms.values() if step.spec.urn == urn]


def steps_within(graph, name):
    """The names of the steps that a step consists of, without its own."""
    step = graph.transforms[name]
    prefix = f"{step.unique_name}/" if step.unique_name else ""
    return {
        graph.transforms[part].unique_name.removeprefix(prefix): part for part in step.subtransforms
    }


def test_stages(graph):
    inner = {name for step in graph.transforms.values() for name in step.subtransforms}
    (root,) = graph.transforms.keys() - inner
    stages = steps_within(graph, root)
    assert stages.keys() == STAGES.keys()
    for stage, steps in STAGES.items():
        assert sorted(steps_within(graph, stages[stage])) == sorted(steps.split()), stage


def test_what_is_grouped(graph):
    groups = of_urn(graph, common_urns.primitives.GROUP_BY_KEY.urn)
    places = {
        next(
            (place for place in GROUPS if step.unique_name.startswith(f"{place}/")),
            step.unique_name,
        )
        for step in groups
    }
    assert places == GROUPS.keys()


def test_events_cross_one_shuffle(graph):
    """From the events of the parser, each path meets one GroupByKey before sessions are made.

    But for what is found of few products, and merged.
    """
    readers = {name: step for name, step in graph.transforms.items() if not step.subtransforms}

    def consumers(collection):
        return [
            step
            for step in readers.values()
            if collection in step.inputs.values() and "/Merge" not in step.unique_name
        ]

    def groups_until(step, last):
        found = step.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
        if step.unique_name.startswith(last):
            return {0}
        return {
            found + behind
            for collection in step.outputs.values()
            for consumer in consumers(collection)
            for behind in groups_until(consumer, last)
        }

    (parser,) = [
        step for step in readers.values() if step.unique_name.startswith("Parse/ParseRanges/")
    ]
    (events,) = [key for tag, key in parser.outputs.items() if tag == "None"]
    paths = [
        groups_until(consumer, "Sessions/ProcessShards/")
        for consumer in consumers(events)
        if consumer.unique_name.startswith("ShuffleEvents/")
    ]
    assert paths == [{1}]


def element_coders(coder):
    yield coder
    for part in coder._get_component_coders() or ():
        yield from element_coders(part)


def test_elements_are_pickled_only_where_no_coder_exists(graph):
    """Ranges, days and parameters of models are small."""
    context = PipelineContext(graph)
    pickled = {
        re.sub(r"^\d+|\.None$", "", collection.unique_name)
        for collection in graph.pcollections.values()
        for coder in element_coders(context.coders.get_by_id(collection.coder_id))
        if isinstance(coder, FastPrimitivesCoder | PickleCoder)
    }
    assert {name.partition("/")[0] + "/" + name.split("/")[1] for name in pickled} == {
        "Parse/InputRanges",
        "Parse/SpreadRanges",
        "LifetimeValue/FindFirstPurchase",
        "LifetimeValue/Earliest",
        "LifetimeValue/SplitDays",
        "LifetimeValue/FitModels",
        "LifetimeValue/ChooseModel",
    }


def test_keys_that_are_grouped_have_deterministic_coders(graph):
    context = PipelineContext(graph)
    for step in of_urn(graph, common_urns.primitives.GROUP_BY_KEY.urn):
        (collection,) = step.inputs.values()
        coder = context.coders.get_by_id(graph.pcollections[collection].coder_id)
        assert coder.key_coder().is_deterministic()
