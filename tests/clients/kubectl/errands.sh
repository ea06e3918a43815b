# The work of kubectl: every step runs in a namespace of its own side, see tests/src/bin/errands.rs.

## version
kubectl version

## config current-context
kubectl config current-context

## config view
kubectl config view

## cluster-info
kubectl cluster-info

## api-versions
kubectl api-versions

## api-resources
kubectl api-resources -o wide

## explain
kubectl explain deployment.spec.template.spec.containers --recursive

## create, of a file
kubectl -n $NAMESPACE create -f objects.yaml --save-config
kubectl -n $NAMESPACE rollout status deployment web --timeout=60s >rolled-out

## create configmap
kubectl -n $NAMESPACE create configmap plan --from-literal=step=one

## create secret
kubectl -n $NAMESPACE create secret generic token --from-literal=key=none

## create serviceaccount, role and rolebinding
kubectl -n $NAMESPACE create serviceaccount made
kubectl -n $NAMESPACE create role made --verb=get --resource=configmaps
kubectl -n $NAMESPACE create rolebinding made --role=made --serviceaccount=$NAMESPACE:made

## create token
kubectl -n $NAMESPACE create token made >token
test -s token

## create service
kubectl -n $NAMESPACE create service clusterip made --clusterip=None --tcp=80:http

## expose
kubectl -n $NAMESPACE expose deployment web --port=80 --cluster-ip=None

## create ingress
kubectl -n $NAMESPACE create ingress made '--rule=made.test/*=made:80' --class=made

## create quota and poddisruptionbudget
kubectl -n $NAMESPACE create quota made --hard=pods=100
kubectl -n $NAMESPACE create poddisruptionbudget made --selector=app=made --min-available=1

## create cronjob
kubectl -n $NAMESPACE create cronjob made --image=registry.test/made '--schedule=0 0 1 1 *'

## run
kubectl -n $NAMESPACE run lone --image=registry.test/lone

## autoscale
kubectl -n $NAMESPACE autoscale deployment web --min=1 --max=3

## get
kubectl -n $NAMESPACE get configmaps,deployments,services

## get -o wide
kubectl -n $NAMESPACE get deployments,services -o wide

## get -o yaml
kubectl -n $NAMESPACE get configmap prices -o yaml

## get -o json
kubectl -n $NAMESPACE get secret token -o json

## get -o jsonpath and custom-columns
kubectl -n $NAMESPACE get configmaps '-o=jsonpath={.items[*].data}'
kubectl -n $NAMESPACE get configmaps -o custom-columns=A:.metadata.name

## get with selectors, in pages, sorted
kubectl -n $NAMESPACE get configmaps -l 'team in (fruit, veg)' --show-labels
kubectl -n $NAMESPACE get configmaps --field-selector metadata.name=plan
kubectl -n $NAMESPACE get configmaps --chunk-size=1 --sort-by=.metadata.name

## get --subresource
kubectl -n $NAMESPACE get deployment web --subresource=scale -o name

## get all
kubectl -n $NAMESPACE get all -o name

## get --raw
kubectl get --raw /version
kubectl get --raw "/api/v1/namespaces/$NAMESPACE/configmaps?labelSelector=team%3Dfruit"

## get -w
mkfifo events
kubectl -n $NAMESPACE get configmap plan -w -o name >events &
exec 3<events
read line <&3
kubectl -n $NAMESPACE label configmap plan watched=yes >/dev/null
read next <&3
kill $!
echo "$line $next"

## get what is not there
kubectl -n $NAMESPACE get configmap absent

## get a resource that does not exist
kubectl -n $NAMESPACE get nonsense

## describe
kubectl -n $NAMESPACE describe configmap plan
kubectl -n $NAMESPACE describe deployment web

## events
kubectl -n $NAMESPACE events --for configmap/prices

## apply
kubectl -n $NAMESPACE apply -f changed.yaml
kubectl -n $NAMESPACE apply -f changed.yaml

## apply --dry-run=server
kubectl -n $NAMESPACE apply -f objects.yaml --dry-run=server

## diff
KUBECTL_EXTERNAL_DIFF=./differ kubectl -n $NAMESPACE diff -f objects.yaml

## apply --server-side
kubectl -n $NAMESPACE apply --server-side --force-conflicts -f changed.yaml

## apply --server-side, conflict
kubectl -n $NAMESPACE apply --server-side --field-manager=other -f objects.yaml

## apply -k
kubectl -n $NAMESPACE apply -k kustomize

## kustomize
kubectl kustomize kustomize

## edit
KUBE_EDITOR='sed -i s/1.30/9.99/' kubectl -n $NAMESPACE edit configmap prices

## patch, strategic
kubectl -n $NAMESPACE patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"registry.test/web:3"}]}}}}'

## patch, merge
kubectl -n $NAMESPACE patch configmap prices --type=merge -p '{"data":{"plum":"2.00"}}'

## patch, JSON
kubectl -n $NAMESPACE patch configmap prices --type=json -p '[{"op":"remove","path":"/data/plum"}]'

## patch --subresource
kubectl -n $NAMESPACE patch deployment web --subresource=scale --type=merge -p '{"spec":{"replicas":0}}'

## label
kubectl -n $NAMESPACE label configmap prices season=autumn
kubectl -n $NAMESPACE label configmap prices season-

## annotate
kubectl -n $NAMESPACE annotate configmap prices note=none

## replace
kubectl -n $NAMESPACE get configmap plan -o yaml | sed s/one/two/ | kubectl -n $NAMESPACE replace -f -

## set image, env and resources
kubectl -n $NAMESPACE set image deployment/web web=registry.test/web:4
kubectl -n $NAMESPACE set env deployment/web COLOUR=green
kubectl -n $NAMESPACE set resources deployment/web --limits=cpu=1

## scale
kubectl -n $NAMESPACE scale deployment web --replicas=0

## rollout status, history, pause and resume
kubectl -n $NAMESPACE rollout status deployment web --timeout=60s
kubectl -n $NAMESPACE rollout history deployment web
kubectl -n $NAMESPACE rollout pause deployment web
kubectl -n $NAMESPACE rollout resume deployment web

## rollout restart
kubectl -n $NAMESPACE rollout restart deployment web
kubectl -n $NAMESPACE rollout status deployment web --timeout=60s

## rollout undo
kubectl -n $NAMESPACE rollout undo deployment web
kubectl -n $NAMESPACE rollout status deployment web --timeout=60s

## wait
kubectl -n $NAMESPACE wait --for=condition=Available deployment/web --timeout=60s
kubectl -n $NAMESPACE wait '--for=jsonpath={.data.step}=two' configmap/plan --timeout=60s

## logs
kubectl -n $NAMESPACE logs running
kubectl -n $NAMESPACE logs running --tail=1

## logs of a pod that does not run
kubectl -n $NAMESPACE logs lone

## auth can-i
kubectl -n $NAMESPACE auth can-i create configmaps

## auth can-i, of a stream
kubectl -n $NAMESPACE auth can-i create pods --subresource=exec

## auth whoami
kubectl auth whoami

## top
kubectl -n $NAMESPACE top pods

## exec
kubectl -n $NAMESPACE exec running -- true

## attach
kubectl -n $NAMESPACE attach running

## cp
kubectl -n $NAMESPACE cp running:/etc/hostname copied

## port-forward
kubectl -n $NAMESPACE port-forward running :80

## delete
kubectl -n $NAMESPACE delete pod lone --grace-period=0 --force
kubectl -n $NAMESPACE delete configmap plan
kubectl -n $NAMESPACE delete deployment web --cascade=foreground --timeout=60s

## delete -l
kubectl -n $NAMESPACE delete services -l app=made

## delete what is not there
kubectl -n $NAMESPACE delete configmap absent
