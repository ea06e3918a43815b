"""What a program does with the Python client: objects, patches, watches, the dynamic client. Prints one JSON document for each
operation."""

import json
import os

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

NAMESPACE = os.environ["NAMESPACE"]

config.load_kube_config()
CORE = client.CoreV1Api()
APPS = client.AppsV1Api()
BATCH = client.BatchV1Api()
PRICES = {"metadata": {"name": "prices", "labels": {"team": "fruit"}}, "data": {"apple": "1.20"}}


def plain(result):
    """The result as the API server wrote it, in a fixed order."""
    return json.dumps(client.ApiClient().sanitize_for_serialization(result), sort_keys=True)


def create():
    return CORE.create_namespaced_config_map(NAMESPACE, PRICES)


def read():
    return CORE.read_namespaced_config_map("prices", NAMESPACE)


def read_absent():
    return CORE.read_namespaced_config_map("absent", NAMESPACE)


def list_in_pages():
    names, page = [], CORE.list_namespaced_config_map(NAMESPACE, limit=1)
    while True:
        names += [item.metadata.name for item in page.items]
        following = page.metadata._continue
        if not following:
            return names
        page = CORE.list_namespaced_config_map(NAMESPACE, limit=1, _continue=following)


def list_selected():
    found = CORE.list_namespaced_config_map(NAMESPACE, label_selector="team in (fruit,veg)")
    return [item.metadata.name for item in found.items]


def replace():
    body = read()
    body.data["apple"] = "1.30"
    return CORE.replace_namespaced_config_map("prices", NAMESPACE, body)


def replace_conflict():
    body = {"metadata": {"name": "prices", "resourceVersion": "1"}}
    return CORE.replace_namespaced_config_map("prices", NAMESPACE, body)


def patch(body, content_type):
    def call():
        return CORE.patch_namespaced_config_map("prices", NAMESPACE, body, _content_type=content_type)

    return call


def create_deployment():
    labels = {"app": "web"}
    spec = client.V1DeploymentSpec(
        replicas=0,
        selector=client.V1LabelSelector(match_labels=labels),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="registry.test/web:1")]),
        ),
    )
    body = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    return APPS.create_namespaced_deployment(NAMESPACE, body).spec


def scale():
    return APPS.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 0}}).spec


def create_pod():
    body = {"metadata": {"name": "lone"}, "spec": {"containers": [{"name": "main", "image": "registry.test/main"}]}}
    return CORE.create_namespaced_pod(NAMESPACE, body).metadata.name


def pod_log():
    return CORE.read_namespaced_pod_log("running", NAMESPACE)


def pod_log_of_one_that_does_not_run():
    return CORE.read_namespaced_pod_log("lone", NAMESPACE)


def pod_exec():
    return stream(CORE.connect_get_namespaced_pod_exec, "running", NAMESPACE, command=["true"])


def create_cron_job():
    container = {"name": "once", "image": "registry.test/once"}
    template = {"spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}}}
    body = {"metadata": {"name": "made"}, "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template}}
    return BATCH.create_namespaced_cron_job(NAMESPACE, body).spec


def secret():
    CORE.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "token"}, "stringData": {"key": "none"}})
    return CORE.read_namespaced_secret("token", NAMESPACE)


def watch_events():
    seen, watcher = [], watch.Watch()
    version = CORE.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    CORE.patch_namespaced_config_map("prices", NAMESPACE, {"data": {"step": "one"}})
    CORE.patch_namespaced_config_map("prices", NAMESPACE, {"data": {"step": "two"}})
    for event in watcher.stream(CORE.list_namespaced_config_map, NAMESPACE, resource_version=version):
        seen.append([event["type"], event["object"].metadata.name, event["object"].data["step"]])
        if len(seen) == 2:
            watcher.stop()
    return seen


def dynamic_client():
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"a": "b"}}
    maps.create(body=body, namespace=NAMESPACE)
    body["metadata"]["labels"] = {"by": "apply"}
    maps.server_side_apply(body=body, name="dynamic", namespace=NAMESPACE, field_manager="clients", force_conflicts=True)
    return maps.get(name="dynamic", namespace=NAMESPACE).to_dict()


def api_versions():
    return [group.name for group in client.ApisApi().get_api_versions().groups]


def version():
    return client.VersionApi().get_code().git_version


def delete():
    options = client.V1DeleteOptions(propagation_policy="Foreground", grace_period_seconds=0)
    APPS.delete_namespaced_deployment("web", NAMESPACE, body=options)
    return "deleted"


def delete_collection():
    CORE.delete_collection_namespaced_config_map(NAMESPACE, label_selector="team=fruit")
    return sorted(item.metadata.name for item in CORE.list_namespaced_config_map(NAMESPACE).items)


OPERATIONS = [
    ("version", version),
    ("list API groups", api_versions),
    ("create", create),
    ("read", read),
    ("read what is not there", read_absent),
    ("list in pages", list_in_pages),
    ("list with a selector", list_selected),
    ("replace", replace),
    ("replace with a conflict", replace_conflict),
    ("strategic merge patch", patch({"data": {"pear": "1.50"}}, "application/strategic-merge-patch+json")),
    ("merge patch", patch({"data": {"plum": "2.00"}}, "application/merge-patch+json")),
    ("JSON patch", patch([{"op": "remove", "path": "/data/plum"}], "application/json-patch+json")),
    ("create a deployment", create_deployment),
    ("scale subresource", scale),
    ("create a pod", create_pod),
    ("create a cron job", create_cron_job),
    ("create and read a secret", secret),
    ("log", pod_log),
    ("log of a pod that does not run", pod_log_of_one_that_does_not_run),
    ("exec", pod_exec),
    ("watch", watch_events),
    ("dynamic client", dynamic_client),
    ("delete", delete),
    ("delete a collection", delete_collection),
]


def main():
    for name, call in OPERATIONS:
        entry = {"operation": name, "code": 0}
        try:
            entry["said"] = plain(call())
        except ApiException as error:
            entry["code"] = error.status or 1
            entry["said"] = f"{error.status} {error.reason} {error.body}"
        print(json.dumps(entry), flush=True)


if __name__ == "__main__":
    main()
