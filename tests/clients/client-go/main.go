// What a controller does with client-go, its bodies written as protobuf: typed, dynamic and metadata clients, informers,
// leader election, server-side apply. Prints one JSON document for each operation.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Long enough for a busy machine; no operation waits for it unless something is wrong.
const patience = 2 * time.Minute

type clients struct {
	typed     kubernetes.Interface
	dynamic   dynamic.Interface
	metadata  metadata.Interface
	namespace string
}

type operation struct {
	name string
	do   func(context.Context, *clients) (any, error)
}

type entry struct {
	Operation string `json:"operation"`
	Code      int    `json:"code"`
	Said      string `json:"said"`
}

func main() {
	all, err := connect()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	output := json.NewEncoder(os.Stdout)
	for _, operation := range operations() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		result, err := operation.do(ctx, all)
		cancel()
		code := 0
		if err != nil {
			code = 1
		}
		if err := output.Encode(entry{operation.name, code, said(result, err)}); err != nil {
			os.Exit(1)
		}
	}
}

func connect() (*clients, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	// client-go limits itself, which would make this slow and shows nothing.
	config.QPS = -1
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = runtime.ContentTypeProtobuf
	typed, err := kubernetes.NewForConfig(protobuf)
	if err != nil {
		return nil, err
	}
	dynamic, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	metadata, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &clients{typed, dynamic, metadata, os.Getenv("NAMESPACE")}, nil
}

// said is the result of an operation as text: an object as JSON, an error with the Status that the caller can branch on.
func said(result any, err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		result = struct {
			Reason  metav1.StatusReason
			Code    int32
			Message string
		}{status.Status().Reason, status.Status().Code, status.Status().Message}
	} else if err != nil {
		return "error: " + err.Error()
	}
	text, err := json.Marshal(result)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(text)
}
