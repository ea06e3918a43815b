// Answers what conditions in CEL come to where Kubernetes evaluates them: the reference for those of the guard.
//
// "answer FILE": the first line of the file is an object of variables, each other line an expression as a JSON string.
// Each line of standard output answers one of them: {"value": the same as CEL, "type": name} or {"error": text}.
// "conformance" prints the expressions of CEL's own conformance tests, as far as they need no variables, one a line:
// {"expression": text, "value": what the test wants}, without a value where the test wants an error.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"cel.dev/expr/conformance/test"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"google.golang.org/protobuf/encoding/prototext"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"

	_ "cel.dev/expr/conformance/proto2"
	_ "cel.dev/expr/conformance/proto3"
)

// The variables of the guard's conditions.
var variables = []string{"object", "oldObject", "principal", "request", "time"}

type answer struct {
	Value string `json:"value,omitempty"`
	Type  string `json:"type,omitempty"`
	Error string `json:"error,omitempty"`
}

type conformanceTest struct {
	Expression string `json:"expression"`
	Value      string `json:"value,omitempty"`
}

func main() {
	err := errors.New("usage: cel-oracle answer FILE | conformance")
	switch {
	case len(os.Args) == 3 && os.Args[1] == "answer":
		err = answerAll(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "conformance":
		err = printConformance()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answerAll(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	env, err := environmentOfKubernetes()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return errors.Join(errors.New("no line of variables"), lines.Err())
	}
	known, err := readVariables(lines.Bytes())
	if err != nil {
		return fmt.Errorf("variables: %w", err)
	}
	out := bufio.NewWriter(os.Stdout)
	encoder := newEncoder(out)
	for lines.Scan() {
		var expression string
		if err := json.Unmarshal(lines.Bytes(), &expression); err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		if err := encoder.Encode(answerOne(env, expression, known)); err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), out.Flush())
}

// What Kubernetes evaluates expressions in that were stored: with all of its libraries.
func environmentOfKubernetes() (*cel.Env, error) {
	var declared []cel.EnvOption
	for _, name := range variables {
		declared = append(declared, cel.Variable(name, cel.DynType))
	}
	base := environment.MustBaseEnvSet(version.MajorMinor(1, 36))
	set, err := base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        declared,
	})
	if err != nil {
		return nil, err
	}
	return set.Env(environment.StoredExpressions)
}

func readVariables(line []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var known map[string]any
	if err := decoder.Decode(&known); err != nil {
		return nil, err
	}
	for name := range known {
		known[name] = numbers(known[name])
	}
	text, _ := known["time"].(string)
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, err
	}
	known["time"] = types.Timestamp{Time: moment}
	return known, nil
}

// Numbers as Kubernetes reads them: whole ones are integers.
func numbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		double, _ := value.Float64()
		return double
	case []any:
		for index := range value {
			value[index] = numbers(value[index])
		}
	case map[string]any:
		for key := range value {
			value[key] = numbers(value[key])
		}
	}
	return value
}

func answerOne(env *cel.Env, expression string, known map[string]any) answer {
	value, err := evaluate(env, expression, known)
	if err != nil {
		return answer{Error: err.Error()}
	}
	written, err := source(value)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Value: written, Type: value.Type().TypeName()}
}

func evaluate(env *cel.Env, expression string, known map[string]any) (ref.Val, error) {
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		// The guard checks no types of what stands in the expression: what it would come to without that counts.
		if ast, issues = env.Parse(expression); issues.Err() != nil {
			return nil, issues.Err()
		}
	}
	program, err := env.Program(ast)
	if err != nil {
		return nil, err
	}
	value, _, err := program.Eval(known)
	return value, err
}

func newEncoder(out interface{ Write([]byte) (int, error) }) *json.Encoder {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder
}

// The module of the specification has the tests as files; they are read from where Go keeps it.
func printConformance() error {
	found, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "cel.dev/expr").Output()
	if err != nil {
		return fmt.Errorf("looking for the module cel.dev/expr: %w", err)
	}
	pattern := filepath.Join(strings.TrimSpace(string(found)), "tests/simple/testdata/*.textproto")
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("there are no conformance tests at " + pattern)
	}
	encoder := newEncoder(os.Stdout)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var tests test.SimpleTestFile
		if err := prototext.Unmarshal(data, &tests); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, section := range tests.Section {
			for _, one := range section.Test {
				if len(one.Bindings) > 0 || len(one.TypeEnv) > 0 || one.Container != "" || one.DisableMacros {
					continue
				}
				asked := conformanceTest{Expression: one.Expr, Value: wanted(one)}
				if err := encoder.Encode(asked); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// What a test wants: true where it does not say.
func wanted(one *test.SimpleTest) string {
	if one.ResultMatcher == nil {
		return "true"
	}
	proto := one.GetValue()
	if typed := one.GetTypedResult(); typed != nil {
		proto = typed.GetResult()
	}
	if proto == nil {
		return ""
	}
	value, err := cel.ProtoAsValue(types.DefaultTypeAdapter, proto)
	if err != nil {
		return ""
	}
	// Messages cannot be written down, and the guard has none.
	written, _ := source(value)
	return written
}
