package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestACounterWritesWhatCloudWatchReads(t *testing.T) {
	var out bytes.Buffer
	Counter(&out, func() time.Time { return time.UnixMilli(1700000000000) })("Anomalies")
	want := `{"Anomalies":1,"_aws":{"Timestamp":1700000000000,"CloudWatchMetrics":[{"Namespace":"mobilecred",` +
		`"Dimensions":[[]],"Metrics":[{"Name":"Anomalies","Unit":"Count"}]}]}}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestErrorsAreLoggedAsText(t *testing.T) {
	var out bytes.Buffer
	Logger(&out).Error("failed", "error", errors.New("why"))
	var line map[string]any
	err := json.Unmarshal(out.Bytes(), &line)
	if err != nil || line["error"] != "why" || line["level"] != "ERROR" || line["timestamp"] == nil {
		t.Errorf("%v, %v", line, err)
	}
}
