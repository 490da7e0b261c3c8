"""Runs as an MLflow server or SQLite file has them."""

from typing import Any

from arniqa_pl.errors import InputError
from arniqa_pl.tracking.delivery import brief, connect, prepare_client
from arniqa_pl.tracking.journal import Story
from arniqa_pl.tracking.privacy import anonymous


def read_run(run_id: str, tracking_uri: str) -> Story:
    """Read a run by its id; of each metric, the last value, under step 0.

    Raises:
        InputError: there is no such run, or no answer.

    """
    prepare_client()
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    try:
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id)
    except MlflowException as error:
        raise InputError(
            f"Wanted a run's folder, or the id of an MLflow run on {anonymous(tracking_uri)}, got {run_id}: "
            f"{brief(error)}"
        ) from error
    return _story(run, experiment.name)


def read_experiment(name: str, tracking_uri: str) -> list[Story]:
    """Read all runs of an experiment, the oldest first.

    Raises:
        InputError: there is no such experiment, or it has no runs, or there is no answer.

    """
    prepare_client()
    from mlflow.exceptions import MlflowException

    client = connect(tracking_uri)
    try:
        experiment = client.get_experiment_by_name(name)
        runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]) if experiment else []
    except MlflowException as error:
        raise InputError(
            f"Wanted the experiment {name} on {anonymous(tracking_uri)}, got no answer: {brief(error)}"
        ) from error
    if not runs:
        known = ", ".join(sorted(each.name for each in client.search_experiments() if each.name != "Default"))
        raise InputError(
            f"Wanted runs of the experiment {name} on {anonymous(tracking_uri)}, found none: name another one"
            + (f" of {known}." if known else ", or another logger.tracking_uri.")
        )
    return [_story(run, name) for run in runs]


def _story(run: Any, experiment: str) -> Story:
    return Story(
        name=run.info.run_name,
        experiment=experiment,
        status=run.info.status,
        params=run.data.params,
        tags=run.data.tags,
        metrics={name: [(0, value)] for name, value in run.data.metrics.items()},
    )
