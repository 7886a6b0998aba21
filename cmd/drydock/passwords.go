package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"drydock/bus"
	"drydock/gateway/auth"
)

func (c *cli) usersPasswdCmd() *cobra.Command {
	return c.passwordCmd("passwd USER", "Give a user another password, and end its sessions", func(cmd *cobra.Command, o *office, name, hash string) error {
		return o.change("user-passwd", name, "", func(*bus.Audit) error {
			_, err := o.users.SetPassword(o.ctx, name, hash, operator())
			return said(cmd, err, "changed the password of %s; its sessions are over", name)
		})
	})
}

// passwordCmd is a command about a user that needs a new password first, however long somebody thinks about it.
func (c *cli) passwordCmd(use, short string, act func(cmd *cobra.Command, o *office, name, hash string) error) *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := newPassword(cmd, stdin)
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			return c.withUsers(cmd, func(o *office) error { return act(cmd, o, args[0], hash) })
		},
	}
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input, one line, instead of asking")
	return cmd
}

// newPassword asks for a new password, twice, or reads it from standard input. It is never an argument: those everybody on
// the machine can see.
func newPassword(cmd *cobra.Command, stdin bool) (string, error) {
	if stdin {
		return firstLine(cmd.InOrStdin())
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", errors.New("no terminal to ask for the password on; use --password-stdin")
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		line, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(line), nil
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", err
	}
	if err := auth.CheckPassword(first); err != nil {
		return "", err
	}
	second, err := ask("Once more: ")
	if err == nil && first != second {
		err = errors.New("the two are not the same")
	}
	return first, err
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
