package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const destinations = `alert-destinations = "oncall:ntfy://u:c4nary@ntfy.test/x, chat:slack://hook:c4nary@webhook"` + "\n"

func TestRoutesSayWhoGetsWhat(t *testing.T) {
	t.Parallel()
	cfg := mustParse(t, "[Default]\n"+destinations+`alert-routes = "oncall: error @prod; chat: Warning"`+"\n"+good)
	want := []Route{{"oncall", "error", []string{"prod"}}, {"chat", "warn", nil}}
	if got := cfg.Global.Notify.Routes; !reflect.DeepEqual(got, want) {
		t.Errorf("routes %+v", got)
	}
	if d := cfg.Global.Notify.Destinations; len(d) != 2 || d[0].Name != "oncall" || d[0].URL.Reveal() != "ntfy://u:c4nary@ntfy.test/x" {
		t.Errorf("%d destinations", len(d))
	}
}

func TestWrongRoutesAndDestinationsAreRefusedWithoutTheirSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		destinations + `alert-routes = "nobody: error"`:            `names destination "nobody"`,
		destinations + `alert-routes = "chat: error @nowhere"`:     `names cluster "nowhere"`,
		destinations + `alert-routes = "chat"`:                     "is no route",
		destinations + `alert-routes = "chat: loud"`:               `"loud" is not a permitted value`,
		destinations + `alert-routes = "chat: error prod"`:         `"prod" is no cluster`,
		`alert-destinations = "slack://hook:c4nary@webhook"`:       "is not name:URL",
		`alert-destinations = "c4nary"`:                            "is not name:URL",
		`alert-destinations = ["a:ntfy://c4nary", "a:b://c4nary"]`: `names "a" twice`,
		`alert-destinations = "mail:smtp://c4nary"`:                "choose another name",
		`alert-destinations = "On Call:smtp://c4nary"`:             "has no plain name",
		`alert-destinations = "a:env:NO_SUCH_VARIABLE_HERE"`:       "is not set",
		`mail-smtp-addr = "mail.test"`:                             "is not host:port",
	} {
		_, err := parse("[Default]\n" + text + "\n" + good)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "c4nary") {
			t.Errorf("%s: the error has the secret: %v", text, err)
		}
	}
}

func TestDestinationsFromFilesAndThoseWithKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("ntfy://a:b,c@x.test/t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := mustParse(t, "[Default]\nalert-destinations = \"oncall:file:"+file+"\"\nmail-to = \"a@x.test,b@x.test\"\nalert-slack-url = \"https://x.test/y\"\nalert-script = \"tell\"\n"+
		"alert-pushover-app-token = \"x\"\nalert-routes = \"oncall: info\"\n"+good)
	n := cfg.Global.Notify
	if got := strings.Join(n.Names(), " "); got != "oncall mail slack script" {
		t.Errorf("destinations %s", got)
	}
	if n.Destinations[0].URL.Reveal() != "ntfy://a:b,c@x.test/t" || n.Mail.Addr != "localhost:25" || len(n.Mail.To) != 2 {
		t.Errorf("%+v", n.Mail)
	}
	for _, name := range []string{"mail", "slack", "script"} {
		found := false
		for _, w := range cfg.Warnings {
			found = found || w.Key == "alert-routes" && strings.Contains(w.Text, `"`+name+`"`)
		}
		if !found {
			t.Errorf("nothing says that %s gets nothing", name)
		}
	}
}

func TestAKeyOfNotificationsThatIsMisspeltIsNotPassedOver(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"alert-repeat-every", "scheduler-alert-disabled", "alert-destination"} {
		if _, err := parse("[Default]\n" + key + " = \"x\"\n" + good); err == nil {
			t.Errorf("%s is passed over", key)
		}
	}
}
