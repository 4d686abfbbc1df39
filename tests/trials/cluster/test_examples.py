"""The manifests for Kubernetes: not run, so held to the fields that KubeRay's ray.io/v1 has (ray-operator/apis/ray/v1)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.trials.cluster.apart import ROOT

FOLDER = ROOT / "examples" / "cluster"
HEAD = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
GROUP = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts"),
    *("rayStartParams", "template", "scaleStrategy"),
}
CLUSTER = {
    *("headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling"),
    *("autoscalerOptions", "headServiceAnnotations", "suspend"),
}
JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata"),
    *("clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML"),
    *("jobId", "submissionMode", "entrypointResources", "entrypointNumCpus", "entrypointNumGpus"),
    *("ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend"),
}


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    assert found["apiVersion"] == "ray.io/v1"
    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
    return found


def holds(cluster: dict[str, Any]) -> None:
    assert set(cluster) <= CLUSTER
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) <= HEAD
    assert head["rayStartParams"] == {"num-cpus": "0"}
    for group in groups:
        assert set(group) <= GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    images = set()
    for pod in (head, *groups):
        assert all(isinstance(value, str) for value in pod["rayStartParams"].values())
        spec = pod["template"]["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for container in spec["containers"]:
            images.add(container["image"])
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    assert len(images) == 1  # one Python, one torch, one Ray


def test_the_cluster() -> None:
    found = read("raycluster.yaml")
    assert found["kind"] == "RayCluster"
    holds(found["spec"])


def test_the_job() -> None:
    found = read("rayjob.yaml")
    assert found["kind"] == "RayJob"
    assert set(found["spec"]) <= JOB
    holds(found["spec"]["rayClusterSpec"])
    command = found["spec"]["entrypoint"].split()
    assert command[:2] == ["autoopt", "profile"]
    mounts = found["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0][
        "volumeMounts"
    ]
    assert command[command.index("--out") + 1].startswith(mounts[0]["mountPath"])


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_its_ray_is_that_of_the_image(name: str) -> None:
    spec = read(name)["spec"]
    version = spec.get("rayClusterSpec", spec)["rayVersion"]
    assert f"FROM rayproject/ray:{version}-py311" in (FOLDER / "Dockerfile").read_text()
