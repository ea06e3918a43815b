# The work of helm: every step runs in a namespace of its own side, see tests/src/bin/errands.rs.

## lint
helm lint shop

## template --validate
helm -n $NAMESPACE template demo shop --dry-run=server

## install --dry-run=server
helm -n $NAMESPACE install demo shop --dry-run=server

## install --wait
helm -n $NAMESPACE install demo shop --wait --timeout=120s

## install what is installed
helm -n $NAMESPACE install demo shop

## list
helm -n $NAMESPACE list

## status
helm -n $NAMESPACE status demo

## upgrade --wait, with a hook
helm -n $NAMESPACE upgrade demo shop --set colour=red --set image=registry.test/web:2 --wait --timeout=120s

## upgrade that changes nothing
helm -n $NAMESPACE upgrade demo shop --reuse-values

## upgrade with more values
helm -n $NAMESPACE upgrade demo shop --set image.name=wrong --set colour=blue --timeout=120s

## get values, manifest and hooks
helm -n $NAMESPACE get values demo
helm -n $NAMESPACE get manifest demo
helm -n $NAMESPACE get hooks demo

## history
helm -n $NAMESPACE history demo

## rollback --wait
helm -n $NAMESPACE rollback demo 1 --wait --timeout=120s

## upgrade --install of another release
helm -n $NAMESPACE upgrade --install hello shop

## uninstall --wait
helm -n $NAMESPACE uninstall demo --wait --timeout=120s

## uninstall what is not there
helm -n $NAMESPACE uninstall absent
