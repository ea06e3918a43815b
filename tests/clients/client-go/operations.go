package main

import (
	"context"
	"io"
	"sort"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

func operations() []operation {
	return []operation{
		{"discovery", discover},
		{"create", create},
		{"get", get},
		{"get absent", getAbsent},
		{"list in pages", listInPages},
		{"update", update},
		{"update with a conflict", updateConflict},
		{"strategic merge patch", patch(types.StrategicMergePatchType, `{"data":{"pear":"1.50"}}`)},
		{"merge patch", patch(types.MergePatchType, `{"data":{"plum":"2.00"}}`)},
		{"JSON patch", patch(types.JSONPatchType, `[{"op":"remove","path":"/data/plum"}]`)},
		{"server-side apply", apply},
		{"create a deployment", createDeployment},
		{"apply a deployment", applyDeployment},
		{"scale subresource", scale},
		{"create and evict a pod", evict},
		{"logs of a pod that does not run", logs},
		{"informer", informer},
		{"watch", watch},
		{"leader election", elect},
		{"dynamic client", dynamicClient},
		{"metadata client", metadataClient},
		{"events", events},
		{"delete", remove},
		{"delete a collection", removeCollection},
	}
}

func discover(_ context.Context, c *clients) (any, error) {
	groups, resources, err := c.typed.Discovery().ServerGroupsAndResources()
	sort.Slice(resources, func(i, j int) bool { return resources[i].GroupVersion < resources[j].GroupVersion })
	return []any{groups, resources}, err
}

func prices() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "prices", Labels: map[string]string{"team": "fruit"}},
		Data:       map[string]string{"apple": "1.20"},
		BinaryData: map[string][]byte{"raw": {0, 255, 1}},
	}
}

func create(ctx context.Context, c *clients) (any, error) {
	return c.typed.CoreV1().ConfigMaps(c.namespace).Create(ctx, prices(), metav1.CreateOptions{FieldValidation: "Strict"})
}

func get(ctx context.Context, c *clients) (any, error) {
	return c.typed.CoreV1().ConfigMaps(c.namespace).Get(ctx, "prices", metav1.GetOptions{})
}

func getAbsent(ctx context.Context, c *clients) (any, error) {
	return c.typed.CoreV1().ConfigMaps(c.namespace).Get(ctx, "absent", metav1.GetOptions{})
}

func listInPages(ctx context.Context, c *clients) (any, error) {
	var names []string
	options := metav1.ListOptions{Limit: 1}
	for {
		page, err := c.typed.CoreV1().ConfigMaps(c.namespace).List(ctx, options)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			names = append(names, item.Name)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return names, nil
		}
	}
}

func update(ctx context.Context, c *clients) (any, error) {
	object, err := c.typed.CoreV1().ConfigMaps(c.namespace).Get(ctx, "prices", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	object.Data["apple"] = "1.30"
	return c.typed.CoreV1().ConfigMaps(c.namespace).Update(ctx, object, metav1.UpdateOptions{})
}

func updateConflict(ctx context.Context, c *clients) (any, error) {
	object := prices()
	object.ResourceVersion = "1"
	return c.typed.CoreV1().ConfigMaps(c.namespace).Update(ctx, object, metav1.UpdateOptions{})
}

func patch(kind types.PatchType, body string) func(context.Context, *clients) (any, error) {
	return func(ctx context.Context, c *clients) (any, error) {
		return c.typed.CoreV1().ConfigMaps(c.namespace).Patch(ctx, "prices", kind, []byte(body), metav1.PatchOptions{})
	}
}

func apply(ctx context.Context, c *clients) (any, error) {
	object := coreapply.ConfigMap("applied", c.namespace).WithData(map[string]string{"step": "one"})
	return c.typed.CoreV1().ConfigMaps(c.namespace).Apply(ctx, object, metav1.ApplyOptions{FieldManager: "clients"})
}

func createDeployment(ctx context.Context, c *clients) (any, error) {
	labels := map[string]string{"app": "web"}
	replicas := int32(0)
	return c.typed.AppsV1().Deployments(c.namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "registry.test/web:1"}}},
			},
		},
	}, metav1.CreateOptions{})
}

func applyDeployment(ctx context.Context, c *clients) (any, error) {
	labels := map[string]string{"app": "applied"}
	container := coreapply.Container().WithName("web").WithImage("registry.test/web:2")
	template := coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().WithContainers(container))
	spec := appsapply.DeploymentSpec().WithReplicas(0).WithTemplate(template)
	spec = spec.WithSelector(metaapply.LabelSelector().WithMatchLabels(labels))
	object := appsapply.Deployment("applied", c.namespace).WithSpec(spec)
	return c.typed.AppsV1().Deployments(c.namespace).Apply(ctx, object, metav1.ApplyOptions{FieldManager: "clients"})
}

func scale(ctx context.Context, c *clients) (any, error) {
	return c.typed.AppsV1().Deployments(c.namespace).UpdateScale(ctx, "web", &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: c.namespace},
	}, metav1.UpdateOptions{})
}

func lonePod(ctx context.Context, c *clients, name string) error {
	_, err := c.typed.CoreV1().Pods(c.namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.test/main"}}},
	}, metav1.CreateOptions{})
	return err
}

func evict(ctx context.Context, c *clients) (any, error) {
	if err := lonePod(ctx, c, "lone"); err != nil {
		return nil, err
	}
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: "lone", Namespace: c.namespace},
		DeleteOptions: metav1.NewDeleteOptions(0),
	}
	return "evicted", c.typed.PolicyV1().Evictions(c.namespace).Evict(ctx, eviction)
}

func logs(ctx context.Context, c *clients) (any, error) {
	if err := lonePod(ctx, c, "silent"); err != nil {
		return nil, err
	}
	stream, err := c.typed.CoreV1().Pods(c.namespace).GetLogs("silent", &corev1.PodLogOptions{}).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}

func informer(ctx context.Context, c *clients) (any, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(c.typed, 0, informers.WithNamespace(c.namespace))
	seen := make(chan string, 16)
	maps := factory.Core().V1().ConfigMaps().Informer()
	_, err := maps.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, object any) { seen <- object.(*corev1.ConfigMap).Data["step"] },
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if _, err := patchStep(ctx, c, "two"); err != nil {
		return nil, err
	}
	select {
	case step := <-seen:
		return step, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func patchStep(ctx context.Context, c *clients, step string) (any, error) {
	body := []byte(`{"data":{"step":"` + step + `"}}`)
	return c.typed.CoreV1().ConfigMaps(c.namespace).Patch(ctx, "applied", types.MergePatchType, body, metav1.PatchOptions{})
}

func watch(ctx context.Context, c *clients) (any, error) {
	list, err := c.typed.CoreV1().ConfigMaps(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	events, err := c.typed.CoreV1().ConfigMaps(c.namespace).Watch(ctx, metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, FieldSelector: "metadata.name=applied", AllowWatchBookmarks: true,
	})
	if err != nil {
		return nil, err
	}
	defer events.Stop()
	if _, err := patchStep(ctx, c, "three"); err != nil {
		return nil, err
	}
	return <-events.ResultChan(), nil
}

func elect(ctx context.Context, c *clients) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: c.namespace},
		Client:     c.typed.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: "me"},
	}
	led := "no"
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 60 * time.Second, RenewDeadline: 40 * time.Second, RetryPeriod: time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { led = "yes"; cancel() },
			OnStoppedLeading: func() {},
		},
	})
	return led, nil
}

func dynamicClient(ctx context.Context, c *clients) (any, error) {
	maps := c.dynamic.Resource(configMaps).Namespace(c.namespace)
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "dynamic"},
		"data": map[string]any{"a": "b"},
	}}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	object.SetLabels(map[string]string{"by": "apply"})
	return maps.Apply(ctx, "dynamic", object, metav1.ApplyOptions{FieldManager: "clients", Force: true})
}

func metadataClient(ctx context.Context, c *clients) (any, error) {
	list, err := c.metadata.Resource(configMaps).Namespace(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: "team"})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func events(ctx context.Context, c *clients) (any, error) {
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "told"},
		InvolvedObject: corev1.ObjectReference{Kind: "ConfigMap", Namespace: c.namespace, Name: "prices", APIVersion: "v1"},
		Reason:         "Told", Message: "by a client", Type: corev1.EventTypeNormal,
	}
	return c.typed.CoreV1().Events(c.namespace).Create(ctx, event, metav1.CreateOptions{})
}

func remove(ctx context.Context, c *clients) (any, error) {
	foreground := metav1.DeletePropagationForeground
	return "deleted", c.typed.AppsV1().Deployments(c.namespace).Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: &foreground})
}

func removeCollection(ctx context.Context, c *clients) (any, error) {
	options := metav1.ListOptions{LabelSelector: "team=fruit"}
	err := c.typed.CoreV1().ConfigMaps(c.namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, options)
	if err != nil {
		return nil, err
	}
	left, err := c.typed.CoreV1().ConfigMaps(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, item := range left.Items {
		names = append(names, item.Name)
	}
	sort.Strings(names)
	return names, nil
}
