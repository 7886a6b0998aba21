// Package web is drydock's page for people: login, pages made by the server, and one stream of server-sent events per open
// page that brings its parts up to date when the bus says that something changed.
//
// It owns the session cookie, the protection against forged requests, templates and styles, and a picture of the last 30
// days that is read from the bus. It leaves to the gateway who may do what: an action of a page is a call of its REST
// route, in this process, with the session's token ([Deps.API]), so that there is one place where grants are checked. What
// a page shows is what [auth.Principal.MayRead] lets its reader see.
//
// Nothing on a page is inline: the Content-Security-Policy allows scripts and styles of this server only. Bars and charts
// are SVG, whose geometry are attributes.
package web
