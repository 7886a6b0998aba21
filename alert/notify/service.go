package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// sendRequest is what [SendMain] reads.
type sendRequest struct {
	URL     string  `json:"url"`
	Message Message `json:"message"`
}

// sendMost is how long a sender lives at most, should nobody end it.
const sendMost = 2 * time.Minute

// SendMain is the whole of a process that sends one message over the library and ends: it reads the URL and the message
// from in, and says on errs why it failed. It returns the exit status. It owns the process: the library uses the global
// HTTP client.
func SendMain(in io.Reader, errs io.Writer) int {
	http.DefaultClient.Timeout = sendMost
	var r sendRequest
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		fmt.Fprintln(errs, "read the message:", err)
		return 1
	}
	err := send(r.URL, r.Message)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errs, err)
	if errors.Is(err, errPartly) {
		return partlyStatus
	}
	return 1
}

// errPartly is in the chain of an error of a destination that took the message all the same, but not for everybody.
// Sending it again would tell the others twice.
var errPartly = errors.New("taken, but not for everybody")

// partlyStatus is the exit status of a sender for errPartly.
const partlyStatus = 3

// withoutTitle are the services that have no place for a title.
var withoutTitle = []string{"googlechat", "hangouts", "opsgenie", "pagerduty", "rocketchat", "signal", "wecom", "zulip", "notifiarr"}

func send(url string, m Message) error {
	service, err := locate(url)
	if err != nil {
		return err
	}
	params := types.Params{types.TitleKey: m.Title}
	text := m.Text
	switch id := service.GetID(); {
	case slices.Contains(withoutTitle, id) || slices.Contains(withoutTitle, schemeOf(url)):
		params, text = types.Params{}, m.Title+"\n"+text
	case id == "generic":
		params["id"], params["severity"] = m.ID, string(m.Severity) // more fields of the JSON
	}
	err = service.Send(text, &params)
	if mail, ok := service.(*smtp.Service); ok && err != nil {
		return mailed(err, len(mail.Config.ToAddresses))
	}
	return err
}

// mailed looks whether a mail server took the mail although the library says that it failed: for some of the addresses, or
// for all of them when only the end of the session failed.
func mailed(err error, addresses int) error {
	refused := strings.Count(err.Error(), "error sending message to recipient")
	ended := strings.Contains(err.Error(), "error closing session")
	switch {
	case refused == 0 && ended:
		return nil
	case refused > 0 && refused < addresses:
		return fmt.Errorf("%w: %w", errPartly, err)
	}
	return err
}

// locate finds the service of a URL. Its error may hold the URL.
func locate(url string) (types.Service, error) {
	r, err := router.New(log.New(io.Discard, "", 0))
	if err != nil {
		return nil, err
	}
	return r.Locate(url)
}

func schemeOf(url string) string {
	scheme, _, _ := strings.Cut(url, ":")
	scheme, _, _ = strings.Cut(strings.ToLower(scheme), "+")
	return scheme
}

// CheckURL says what is wrong with the URL of a service, without a secret in its error, and asks nobody.
func CheckURL(url string) error {
	scheme := schemeOf(url)
	r := router.ServiceRouter{}
	if scheme == "logger" || !slices.Contains(r.ListServices(), scheme) {
		services := slices.DeleteFunc(r.ListServices(), func(s string) bool { return s == "logger" })
		slices.Sort(services)
		return fmt.Errorf("it begins with no known service; the services are %s", strings.Join(services, ", "))
	}
	if scheme == "matrix" {
		return nil // it would log in
	}
	if _, err := locate(url); err != nil {
		for cause := err; cause != nil; cause = errors.Unwrap(cause) {
			err = cause
		}
		return fmt.Errorf("it is no URL of %s: %s", scheme, newRedactor(url).clean(err.Error()))
	}
	return nil
}
