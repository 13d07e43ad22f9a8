// Package tap writes a test's results as the Test Anything Protocol, version 13
// (https://testanything.org/tap-version-13-specification.html).
//
// The suite imports a package of this name that no Debian package has. This one has the functions
// that the suite calls and decides nothing: what is ok and what is not is said by the suite.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the results of one test program and writes them to standard output.
type T struct {
	count int
	todo  bool
}

// New begins a test program's results.
func New() *T { return &T{} }

// Header writes the version and, if the number of results is known already, the plan.
func (t *T) Header(count int) {
	fmt.Println("TAP version 13")
	if count > 0 {
		fmt.Printf("1..%d\n", count)
	}
}

// AutoPlan writes the plan at the end, from the number of results there have been.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", t.count) }

// Ok writes one result.
func (t *T) Ok(ok bool, description string) {
	t.count++
	word, directive := "ok", ""
	if !ok {
		word = "not ok"
	}
	if t.todo {
		directive = " # TODO"
		t.todo = false
	}
	fmt.Printf("%s %d - %s%s\n", word, t.count, oneLine(description), directive)
}

// Pass writes a result that is ok.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail writes a result that is not.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip writes results that were not looked for, and why.
func (t *T) Skip(count int, reason string) {
	for i := 0; i < count; i++ {
		t.count++
		fmt.Printf("ok %d # SKIP %s\n", t.count, oneLine(reason))
	}
}

// Todo marks the next result as one that is not expected to be ok yet.
func (t *T) Todo() *T {
	t.todo = true
	return t
}

// Diagnostic writes a comment.
func (t *T) Diagnostic(message string) {
	fmt.Printf("# %s\n", strings.ReplaceAll(strings.TrimSuffix(message, "\n"), "\n", "\n# "))
}

// Diagnosticf writes a comment from a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML writes what belongs to the last result, as a block of JSON, which is YAML as well.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}

// oneLine keeps a result on its line.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }
