package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	askTimeout = 5 * time.Second
	maxAnswer  = 1 << 20
)

// A Report is what a process says of itself.
type Report struct {
	Liveness
	Readiness
}

// Ask asks the process that serves at the address, a URL or host and port, whether it is live and ready. That it is not
// is no error: an error means that nobody knows. It takes five seconds at most.
func Ask(ctx context.Context, address string) (Report, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Hostname() == "" || base.Scheme != "http" && base.Scheme != "https" {
		return Report{}, errors.New("url: is neither an http or https URL nor host:port")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := &http.Client{
		// It goes straight to the process: what a proxy answers says nothing of it.
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var r Report
	for _, question := range []struct {
		path, field string
		part        any
	}{{"livez", "live", &r.Liveness}, {"readyz", "ready", &r.Readiness}} {
		at := base.JoinPath(question.path)
		if err := ask(ctx, client, at, question.field, question.part); err != nil {
			var failed *url.Error
			if errors.As(err, &failed) {
				err = failed.Err // it would name the URL once more
			}
			return Report{}, fmt.Errorf("cannot ask %s: %w", at.Redacted(), err)
		}
	}
	return r, nil
}

// ask decodes an answer that must have the field.
func ask(ctx context.Context, client *http.Client, at *url.URL, field string, part any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields[field] == nil || json.Unmarshal(body, part) != nil {
		return fmt.Errorf("the answer, %s, is not that of a worker or monitor", response.Status)
	}
	return nil
}
