package main

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	kubernetes "k8s.io/apiserver/pkg/cel"
)

// A value as an expression that has it.
func source(value ref.Val) (string, error) {
	switch value := value.(type) {
	case types.Bool, types.Int:
		return fmt.Sprint(value.Value()), nil
	case types.Uint:
		return fmt.Sprintf("%du", value), nil
	case types.Double:
		if math.IsNaN(float64(value)) {
			return "", errors.New("what is no number cannot be written down so that it equals itself")
		}
		return fmt.Sprintf("double(%q)", strconv.FormatFloat(float64(value), 'g', -1, 64)), nil
	case types.String:
		return text(string(value)), nil
	case types.Bytes:
		var out strings.Builder
		for _, one := range []byte(value) {
			fmt.Fprintf(&out, `\x%02x`, one)
		}
		return `b"` + out.String() + `"`, nil
	case types.Null:
		return "null", nil
	case types.Duration:
		return fmt.Sprintf("duration('%dns')", value.Duration.Nanoseconds()), nil
	case types.Timestamp:
		return fmt.Sprintf("timestamp(%q)", value.Time.UTC().Format("2006-01-02T15:04:05.999999999Z")), nil
	case *types.Optional:
		if !value.HasValue() {
			return "optional.none()", nil
		}
		inner, err := source(value.GetValue())
		return "optional.of(" + inner + ")", err
	case traits.Lister:
		return list(value)
	case traits.Mapper:
		return entries(value)
	}
	return ofKubernetes(value)
}

// A value of one of Kubernetes' own types.
func ofKubernetes(value ref.Val) (string, error) {
	switch value := value.(type) {
	case kubernetes.Quantity:
		return "quantity(" + text(value.Quantity.String()) + ")", nil
	case kubernetes.IP:
		return "ip(" + text(value.Addr.String()) + ")", nil
	case kubernetes.CIDR:
		return "cidr(" + text(value.Prefix.String()) + ")", nil
	case kubernetes.Semver:
		return "semver(" + text(value.Version.String()) + ")", nil
	case kubernetes.URL:
		return "url(" + text(value.URL.String()) + ")", nil
	}
	return "", fmt.Errorf("a value of type %s cannot be written down", value.Type().TypeName())
}

func list(value traits.Lister) (string, error) {
	var items []string
	for it := value.Iterator(); it.HasNext() == types.True; {
		item, err := source(it.Next())
		if err != nil {
			return "", err
		}
		items = append(items, item)
	}
	return "[" + strings.Join(items, ", ") + "]", nil
}

func entries(value traits.Mapper) (string, error) {
	var items []string
	for it := value.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		left, err := source(key)
		if err != nil {
			return "", err
		}
		right, err := source(value.Get(key))
		if err != nil {
			return "", err
		}
		items = append(items, left+": "+right)
	}
	sort.Strings(items)
	return "{" + strings.Join(items, ", ") + "}", nil
}

// A literal that both parsers read.
func text(value string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, char := range value {
		if char >= ' ' && char < 0x7f && char != '"' && char != '\\' {
			out.WriteRune(char)
		} else {
			fmt.Fprintf(&out, `\U%08x`, char)
		}
	}
	out.WriteByte('"')
	return out.String()
}
