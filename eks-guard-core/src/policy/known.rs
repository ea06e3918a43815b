//! The resources that kube-apiserver 1.36 itself serves: group, scope, and the other names people write for them.
//! Deciding needs the scope, documents and the command line need the names; custom resources are in neither.

/// Whether objects of a resource live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every object is in exactly one namespace.
    Namespaced,
    /// Objects are in no namespace.
    Cluster,
}

/// One resource that kube-apiserver serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownResource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name, as in the URL.
    pub resource: &'static str,
    /// Where its objects live.
    pub scope: Scope,
    /// Singular and short names, separated by spaces.
    aliases: &'static str,
}

const fn namespaced(group: &'static str, resource: &'static str, aliases: &'static str) -> KnownResource {
    KnownResource {
        group,
        resource,
        scope: Scope::Namespaced,
        aliases,
    }
}

const fn cluster(group: &'static str, resource: &'static str, aliases: &'static str) -> KnownResource {
    KnownResource {
        group,
        resource,
        scope: Scope::Cluster,
        aliases,
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// Sorted by group, then resource: looked up by binary search.
const KNOWN: &[KnownResource] = &[
    namespaced("", "bindings", "binding"),
    cluster("", "componentstatuses", "componentstatus cs"),
    namespaced("", "configmaps", "configmap cm"),
    namespaced("", "endpoints", "endpoint ep"),
    namespaced("", "events", "event ev"),
    namespaced("", "limitranges", "limitrange limits"),
    cluster("", "namespaces", "namespace ns"),
    cluster("", "nodes", "node no"),
    namespaced("", "persistentvolumeclaims", "persistentvolumeclaim pvc"),
    cluster("", "persistentvolumes", "persistentvolume pv"),
    namespaced("", "pods", "pod po"),
    namespaced("", "podtemplates", "podtemplate"),
    namespaced("", "replicationcontrollers", "replicationcontroller rc"),
    namespaced("", "resourcequotas", "resourcequota quota"),
    namespaced("", "secrets", "secret"),
    namespaced("", "serviceaccounts", "serviceaccount sa"),
    namespaced("", "services", "service svc"),
    cluster(ADMISSION, "mutatingadmissionpolicies", "mutatingadmissionpolicy"),
    cluster(
        ADMISSION,
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicybinding",
    ),
    cluster(
        ADMISSION,
        "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration",
    ),
    cluster(
        ADMISSION,
        "validatingadmissionpolicies",
        "validatingadmissionpolicy",
    ),
    cluster(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
    ),
    cluster(
        ADMISSION,
        "validatingwebhookconfigurations",
        "validatingwebhookconfiguration",
    ),
    cluster(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "customresourcedefinition crd crds",
    ),
    cluster("apiregistration.k8s.io", "apiservices", "apiservice"),
    namespaced("apps", "controllerrevisions", "controllerrevision"),
    namespaced("apps", "daemonsets", "daemonset ds"),
    namespaced("apps", "deployments", "deployment deploy"),
    namespaced("apps", "replicasets", "replicaset rs"),
    namespaced("apps", "statefulsets", "statefulset sts"),
    cluster(AUTHENTICATION, "selfsubjectreviews", "selfsubjectreview"),
    cluster(AUTHENTICATION, "tokenreviews", "tokenreview"),
    namespaced(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
    ),
    cluster(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    ),
    cluster(AUTHORIZATION, "selfsubjectrulesreviews", "selfsubjectrulesreview"),
    cluster(AUTHORIZATION, "subjectaccessreviews", "subjectaccessreview"),
    namespaced(
        "autoscaling",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler hpa",
    ),
    namespaced("batch", "cronjobs", "cronjob cj"),
    namespaced("batch", "jobs", "job"),
    cluster(
        CERTIFICATES,
        "certificatesigningrequests",
        "certificatesigningrequest csr",
    ),
    cluster(CERTIFICATES, "clustertrustbundles", "clustertrustbundle"),
    namespaced(CERTIFICATES, "podcertificaterequests", "podcertificaterequest"),
    namespaced("coordination.k8s.io", "leasecandidates", "leasecandidate"),
    namespaced("coordination.k8s.io", "leases", "lease"),
    namespaced("discovery.k8s.io", "endpointslices", "endpointslice"),
    namespaced("events.k8s.io", "events", "event ev"),
    cluster(FLOWCONTROL, "flowschemas", "flowschema"),
    cluster(
        FLOWCONTROL,
        "prioritylevelconfigurations",
        "prioritylevelconfiguration",
    ),
    cluster("internal.apiserver.k8s.io", "storageversions", "storageversion"),
    cluster("metrics.k8s.io", "nodes", ""),
    namespaced("metrics.k8s.io", "pods", ""),
    cluster(NETWORKING, "ingressclasses", "ingressclass"),
    namespaced(NETWORKING, "ingresses", "ingress ing"),
    cluster(NETWORKING, "ipaddresses", "ipaddress ip"),
    namespaced(NETWORKING, "networkpolicies", "networkpolicy netpol"),
    cluster(NETWORKING, "servicecidrs", "servicecidr"),
    cluster("node.k8s.io", "runtimeclasses", "runtimeclass"),
    namespaced("policy", "poddisruptionbudgets", "poddisruptionbudget pdb"),
    cluster(RBAC, "clusterrolebindings", "clusterrolebinding"),
    cluster(RBAC, "clusterroles", "clusterrole"),
    namespaced(RBAC, "rolebindings", "rolebinding"),
    namespaced(RBAC, "roles", "role"),
    cluster(RESOURCE, "deviceclasses", "deviceclass"),
    cluster(RESOURCE, "devicetaintrules", "devicetaintrule"),
    namespaced(RESOURCE, "resourceclaims", "resourceclaim"),
    namespaced(RESOURCE, "resourceclaimtemplates", "resourceclaimtemplate"),
    cluster(
        RESOURCE,
        "resourcepoolstatusrequests",
        "resourcepoolstatusrequest",
    ),
    cluster(RESOURCE, "resourceslices", "resourceslice"),
    namespaced("scheduling.k8s.io", "podgroups", "podgroup"),
    cluster("scheduling.k8s.io", "priorityclasses", "priorityclass pc"),
    namespaced("scheduling.k8s.io", "workloads", "workload"),
    cluster(STORAGE, "csidrivers", "csidriver"),
    cluster(STORAGE, "csinodes", "csinode"),
    namespaced(STORAGE, "csistoragecapacities", "csistoragecapacity"),
    cluster(STORAGE, "storageclasses", "storageclass sc"),
    cluster(STORAGE, "volumeattachments", "volumeattachment"),
    cluster(STORAGE, "volumeattributesclasses", "volumeattributesclass vac"),
    cluster(
        "storagemigration.k8s.io",
        "storageversionmigrations",
        "storageversionmigration",
    ),
];

/// Resources whose PUT creates the object when there is none (`AllowCreateOnUpdate` in kube-apiserver).
const CREATED_BY_PUT: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leasecandidates"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    (RBAC, "clusterrolebindings"),
    (RBAC, "clusterroles"),
    (RBAC, "rolebindings"),
    (RBAC, "roles"),
];

impl KnownResource {
    /// The resource with exactly this group and plural name.
    #[must_use]
    pub fn find(group: &str, resource: &str) -> Option<&'static KnownResource> {
        let index = KNOWN
            .binary_search_by(|known| (known.group, known.resource).cmp(&(group, resource)))
            .ok()?;
        KNOWN.get(index)
    }

    /// Every resource.
    pub(crate) fn all() -> impl Iterator<Item = &'static KnownResource> {
        KNOWN.iter()
    }

    /// The resource that a plural, singular or short name means; the first group wins, as in kubectl.
    #[must_use]
    pub fn named(text: &str) -> Option<&'static KnownResource> {
        KNOWN
            .iter()
            .find(|known| known.resource == text || known.aliases().any(|alias| alias == text))
    }

    /// Every group that serves a resource with this plural name.
    pub fn groups_of(resource: &str) -> impl Iterator<Item = &'static str> {
        KNOWN
            .iter()
            .filter(move |known| known.resource == resource)
            .map(|known| known.group)
    }

    /// Whether kube-apiserver itself owns the group, so that no custom resource can be in it.
    #[must_use]
    pub fn owns_group(group: &str) -> bool {
        KNOWN.iter().any(|known| known.group == group)
    }

    /// The kind of its objects in this version, as in `kind: Deployment`.
    #[must_use]
    pub fn kind(&self, version: &str) -> Option<&'static str> {
        let singular = self.aliases().next()?;
        crate::body::protobuf::kind_named(self.group, version, singular)
    }

    /// Singular and short names.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> {
        self.aliases.split_ascii_whitespace()
    }
}

/// Whether a PUT on the resource may create the object.
pub(crate) fn is_created_by_put(group: &str, resource: &str) -> bool {
    CREATED_BY_PUT.contains(&(group, resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_so_that_look_ups_find_everything() {
        assert!(KNOWN.is_sorted_by(|a, b| (a.group, a.resource) < (b.group, b.resource)));
        for known in KNOWN {
            assert_eq!(KnownResource::find(known.group, known.resource), Some(known));
        }
        assert_eq!(KnownResource::find("apps", "pods"), None);
    }

    #[test]
    fn names_people_write_are_understood() {
        for (text, group, resource) in [
            ("po", "", "pods"),
            ("pod", "", "pods"),
            ("deploy", "apps", "deployments"),
            ("cm", "", "configmaps"),
            ("events", "", "events"),
            ("crd", "apiextensions.k8s.io", "customresourcedefinitions"),
        ] {
            let known = KnownResource::named(text).expect(text);
            assert_eq!((known.group, known.resource), (group, resource));
        }
        assert_eq!(KnownResource::named(""), None);
    }

    #[test]
    fn puts_that_create_are_of_known_resources() {
        assert!(
            CREATED_BY_PUT
                .iter()
                .all(|(group, resource)| KnownResource::find(group, resource).is_some())
        );
    }
}
