package splitrig

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Healthy asks a server of the bus whether all is well with it; the error holds its own words. ctx should have a deadline.
func (r *Rig) Healthy(ctx context.Context, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/healthz", r.Addrs[name], Monitor), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s: %s: %s", name, resp.Status, why)
	}
	return nil
}
